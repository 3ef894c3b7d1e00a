"""Chapters 6 and 10: what a clip is judged by, and methods against each other."""
