"""One clustering method a file: spectrograms in, a Bundle out."""
