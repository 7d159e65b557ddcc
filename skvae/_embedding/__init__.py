"""What ``VAEEmbedder`` does beyond its fit and its samples, a file each."""
