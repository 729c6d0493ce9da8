//! Pictures as tensors and back.

use std::io::Cursor;

use image::{ImageBuffer, ImageFormat, PixelWithColorType, RgbImage};
use tch::{Device, Kind, Tensor};

use crate::error::{Context, Kind as ErrorKind, Result};

/// `[N, 3, H, W]`, f32 in `[0, 1]`, channels-last, on the CPU. All pictures must have the size of the first.
pub fn tensor<'a>(pictures: impl IntoIterator<Item = &'a RgbImage>) -> Tensor {
    let mut bytes = Vec::new();
    let (mut count, mut width, mut height) = (0, 0, 0);
    for picture in pictures {
        (width, height) = picture.dimensions();
        bytes.extend_from_slice(picture.as_raw());
        count += 1;
    }
    let shape = [count, height.into(), width.into(), 3];
    let pixels = Tensor::from_data_size(&bytes, &shape, Kind::Uint8).to_kind(Kind::Float) / 255.0;
    pixels.permute([0, 3, 1, 2])
}

/// The pictures in `images` `[N, 3, H, W]`, f32 in `[0, 1]`, each value rounded to the nearest of 256 levels.
pub fn pictures(images: &Tensor) -> Vec<RgbImage> {
    let levels = (images.detach() * 255.0).round().clamp(0.0, 255.0);
    let pixels = levels.permute([0, 2, 3, 1]).to_kind(Kind::Uint8).to_device(Device::Cpu).contiguous();
    let (height, width) = (images.size()[2] as u32, images.size()[3] as u32);
    let mut bytes = vec![0; pixels.numel()];
    pixels.copy_data(&mut bytes, pixels.numel());
    let each = bytes.chunks_exact(height as usize * width as usize * 3);
    each.filter_map(|bytes| RgbImage::from_raw(width, height, bytes.to_vec())).collect()
}

/// The bytes of a PNG file of 8 bits a channel.
pub fn png<P>(picture: &ImageBuffer<P, Vec<u8>>) -> Result<Vec<u8>>
where
    P: PixelWithColorType<Subpixel = u8>,
{
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .context(ErrorKind::Internal, || "a picture cannot be written as PNG".into())?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn picture(seed: u8) -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| image::Rgb([seed.wrapping_add(x as u8 * 37), y as u8 * 101, 255 - x as u8]))
    }

    #[test]
    fn every_level_survives_the_way_there_and_back() {
        let all =
            RgbImage::from_fn(256, 2, |x, y| image::Rgb([x as u8, 255 - x as u8, (x as u8).wrapping_mul(y as u8)]));
        assert_eq!(pictures(&tensor([&all])), [all]);
        assert_eq!(pictures(&tensor([&picture(1), &picture(9)])), [picture(1), picture(9)]);
    }

    #[test]
    fn the_tensor_is_channels_last_and_indexed_by_channel_row_column() {
        let images = tensor([&picture(7)]);
        assert_eq!(images.size(), [1, 3, 3, 5]);
        assert_eq!(images.stride(), [45, 1, 15, 3]);
        let [r, g, b] = picture(7).get_pixel(4, 2).0;
        for (channel, level) in [r, g, b].into_iter().enumerate() {
            let value = images.double_value(&[0, channel as i64, 2, 4]);
            assert!((value - f64::from(level) / 255.0).abs() < 1e-7);
        }
    }

    #[test]
    fn values_are_rounded_and_never_cut_off() {
        let images = Tensor::from_slice(&[0.4999f32 / 255.0, 0.51 / 255.0, 254.6 / 255.0]).view([1, 3, 1, 1]);
        assert_eq!(pictures(&images)[0].get_pixel(0, 0).0, [0, 1, 255]);
    }
}
