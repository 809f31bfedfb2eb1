"""Face embedders: one file an architecture, each with its presets."""
