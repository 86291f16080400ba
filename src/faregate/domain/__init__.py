"""The words of Faregate as values: pure Python, no I/O, no encodings."""
