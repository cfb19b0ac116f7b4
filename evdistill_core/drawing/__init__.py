"""What everything drawn has in common: colours, events, masks, boxes, labels, legends, videos.

Pictures are (H, W, 3) uint8 BGR, as OpenCV has them. `run`, `view`, the nodes' overlays, reports,
training and previews all draw with these functions, so a class or a polarity has one colour.
"""
