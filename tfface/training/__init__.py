"""Training: a teacher distilled into smaller networks, on views of photographs that both see alike."""
