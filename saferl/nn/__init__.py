"""Network blocks that two or more agents share."""
