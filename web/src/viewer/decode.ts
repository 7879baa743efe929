/** JPEG-LS in a worker of its own: only this script's answer allows WebAssembly. */
import charls from '@cornerstonejs/codec-charls/decodewasmjs';
import wasm from '@cornerstonejs/codec-charls/decodewasm?url';

export interface Decoded {
  width: number;
  height: number;
  components: number;
  bits: number;
  /** Components lie in planes, one after the other. */
  planar: boolean;
  bytes: Uint8Array<ArrayBuffer>;
}

const codec = charls({ locateFile: () => wasm });

async function decode(encoded: Uint8Array): Promise<Decoded> {
  const decoder = new (await codec).JpegLSDecoder();
  try {
    decoder.getEncodedBuffer(encoded.length).set(encoded);
    decoder.decode();
    const { width, height, bitsPerSample, componentCount } = decoder.getFrameInfo();
    return {
      width,
      height,
      components: componentCount,
      bits: bitsPerSample,
      planar: componentCount > 1 && decoder.getInterleaveMode() === 0,
      bytes: new Uint8Array(decoder.getDecodedBuffer()),
    };
  } finally {
    decoder.delete();
  }
}

addEventListener('message', ({ data }: MessageEvent<{ id: number; encoded: Uint8Array }>) => {
  decode(data.encoded).then(
    (decoded) => postMessage({ id: data.id, decoded }, { transfer: [decoded.bytes.buffer] }),
    (error: unknown) => postMessage({ id: data.id, error: String(error) }),
  );
});
