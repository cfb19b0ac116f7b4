"""The training loop: stages, resume, progress, reports."""
