"""Cut sections into the chunks that are embedded."""
