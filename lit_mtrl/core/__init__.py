"""What every room may use and what knows none of them: files, text, signals, limits of the system, addresses. PyTorch
is not needed here.
"""
