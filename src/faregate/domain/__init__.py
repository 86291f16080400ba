"""The domain: values in pure Python, without I/O and encodings."""
