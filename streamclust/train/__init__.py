"""Fitting of models; the only layer that may import torch and scikit-learn."""
