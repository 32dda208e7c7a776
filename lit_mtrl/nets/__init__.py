"""Network architectures, one a file, called as ``net(x, task)``, and the layers they are made of."""
