"""Images or video to labelled events."""
