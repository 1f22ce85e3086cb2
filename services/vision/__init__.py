"""The vision service: pictures to labels, boxes, text and faces."""
