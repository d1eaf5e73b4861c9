"""From files to tokens: readers, tissue, encoders and the store of embeddings."""
