"""Images that tests make, and the registries and storages that have them."""
