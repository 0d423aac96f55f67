"""Root filesystems, bundles around them, and specs as others write them."""
