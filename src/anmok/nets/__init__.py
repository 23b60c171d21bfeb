"""Nets that no dependency provides: tensors in, tensors out, torch, and transformers where it has the net.

A net knows nothing of images, files or tasks. Each module has a frozen ``Config`` without defaults, the
published configurations by name, a ``TINY`` one for tests, and a function that turns a published state dict
into the names that the net loads with ``strict=True``.
"""
