from tfface.models.student import inception_resnet_simple


def test_number_of_weights_by_hand():
    """Kernels 8*8*3*32 + 6*6*32*64 + 8*8*64*128 + 512*128 = 669,696.

    Batch normalisation keeps four numbers a channel: 4 * (32 + 64 + 128 + 128) = 1,408.
    """
    assert inception_resnet_simple().count_params() == 669_696 + 1_408 == 671_104


def test_sides_by_hand():
    """160 -> (160 - 8) / 4 + 1 = 39 -> 33 // 4 + 1 = 9 -> 9 - 8 + 1 = 2: 2 * 2 * 128 = 512 values."""
    model = inception_resnet_simple(embedding_size=64)
    assert model.get_layer("flatten").output.shape == (None, 512)
    assert model.output_shape == (None, 64)
