"use strict";
(() => {
  // Light or dark: the system's choice until the reader makes one.
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("tfface-theme", value);
      return localStorage.getItem("tfface-theme");
    } catch (error) {
      return null; // a page opened from a file may have no storage
    }
  };
  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remembered(root.dataset.theme);
  });

  // Figure 1: everything that belongs to an epsilon is shown at it alone.
  for (const slider of document.querySelectorAll(".slider")) {
    const input = slider.querySelector("input[type=range]");
    const show = () => {
      for (const part of slider.querySelectorAll("[data-step]")) part.hidden = part.dataset.step !== input.value;
    };
    input.addEventListener("input", show);
    show();
  }
})();
