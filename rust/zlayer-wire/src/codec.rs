//! A prost codec with small buffers: a heartbeat is some 30 bytes, and tonic's default of 8 KiB for each
//! direction of each stream would be most of what a connected worker costs.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes that a stream's encode and decode buffers start with. Chosen: the largest common message fits.
const BUFFER_BYTES: usize = 256;

/// Bytes of encoded messages after which a stream yields to the connection. Chosen.
const YIELD_BYTES: usize = 8 * 1024;

/// [`tonic_prost::ProstCodec`] with [`BufferSettings`] for many quiet streams.
#[derive(Debug, Clone)]
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
