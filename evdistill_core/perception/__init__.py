"""The live path: packets in, masks and detections out, from topics and from files alike."""
