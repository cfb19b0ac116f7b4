"""What a network sees: windows of events as dense arrays."""
