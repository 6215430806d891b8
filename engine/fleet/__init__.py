"""One corpus for many tasks: the manifest, its shards and leases, and what the whole will take."""
