"""PSNR and SSIM as scikit-image computes them, for the test in src/lab/likeness.rs.

    pip install scikit-image==0.25.2 && python tests/python/likeness_reference.py

SSIM with the settings of Wang et al. 2004: Gaussian windows of sigma 1.5, no sample covariance."""
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def picture(height, width):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((x * 5 + y * 3 + c * 40 + (x * y) % 17) % 256).astype(np.uint8)


def changed(picture, levels):
    y, x, c = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1], 0:3]
    sign = np.where((x * 7 + y * 11 + c * 3) % 5 < 2, 1, -1)
    return np.clip(picture.astype(int) + sign * levels, 0, 255).astype(np.uint8)


for height, width, levels in ((24, 31, 1), (24, 31, 8), (64, 64, 2), (64, 64, 51), (11, 11, 4)):
    a = picture(height, width)
    b = changed(a, levels)
    psnr = peak_signal_noise_ratio(a, b, data_range=255)
    ssim = structural_similarity(
        a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    print(f"({height}, {width}, {levels}, {psnr:.9f}, {ssim:.9f}),")
