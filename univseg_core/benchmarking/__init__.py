"""What a model costs on a machine, beside what users would pick instead."""
