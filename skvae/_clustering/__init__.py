"""What ``AEStetikClusterer`` does beyond its fit and its predictions, a file each."""
