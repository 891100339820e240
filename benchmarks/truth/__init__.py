"""Which model is best after fine-tuning, measured: the truth that rankings are held against."""
