declare module '@cornerstonejs/codec-charls/decodewasmjs' {
  interface JpegLSDecoder {
    getEncodedBuffer(length: number): Uint8Array;
    decode(): void;
    getFrameInfo(): { width: number; height: number; bitsPerSample: number; componentCount: number };
    getInterleaveMode(): number;
    getDecodedBuffer(): Uint8Array;
    delete(): void;
  }
  export default function charls(options: {
    locateFile: () => string;
  }): Promise<{ JpegLSDecoder: new () => JpegLSDecoder }>;
}
declare module '@cornerstonejs/codec-charls/decodewasm?url' {
  const url: string;
  export default url;
}
