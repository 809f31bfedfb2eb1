"""Attacks: one file each, named as `--attack` names it; what they share beside them."""
