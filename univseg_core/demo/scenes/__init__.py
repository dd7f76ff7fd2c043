"""Two synthetic worlds: a street and a room, image and exact label from a seed."""
