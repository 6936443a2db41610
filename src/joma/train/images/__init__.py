"""Pictures for training: drawn characters with their parts, folders of images, files of Fashion-MNIST's kind."""
