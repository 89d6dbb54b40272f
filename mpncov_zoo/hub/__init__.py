"""Where weights come from and how they are trusted: sources, verification; and the handles of TensorFlow Hub."""


def register() -> None:
    """Make TensorFlow Hub understand `mpncov://<model>` and `mpncov://<model>.<tag>`, in this process.

    What such a handle names is found and verified as `mpncov_zoo.load` does it, and its graph holds no operation but
    those of this package's own exports, before TensorFlow loads it. A second call does nothing.

    Raises:
        InputError: TensorFlow Hub cannot be imported; the message says what to install.

    Example:
        >>> import mpncov_zoo, tensorflow_hub
        >>> mpncov_zoo.hub.register()
        >>> network = tensorflow_hub.load("mpncov://mpncov_cifar_resnet20")
        >>> layer = tensorflow_hub.KerasLayer("mpncov://mpncov_cifar_resnet20.fashion_mnist", trainable=True)
    """
    from mpncov_zoo.hub import tensorflow_hub

    tensorflow_hub.register()
