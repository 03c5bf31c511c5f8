"""Messages of the wire and of the disk, generated from the `.proto` files here by `python -m kvstore.proto`."""
