/**
 * The sounds of alarms, made here so that no file has to be fetched when one is needed. Bursts after
 * IEC 60601-1-8: ten pulses for high priority, three for medium, one for low; then a pause. The
 * pause is part of the sound and the sound is a loop: a page in the background has slow timers.
 */
export type Severity = 'technical' | 'urgent' | 'emergency';

const RATE = 8_000;
const PULSE_S = 0.15;
const HARMONICS = [1, 0.5, 0.33, 0.25];

const BURSTS: Record<Severity, { pulses: number[]; pitch: number; length: number }> = {
  emergency: {
    pulses: [0, 0.25, 0.5, 0.9, 1.15, 2, 2.25, 2.5, 2.9, 3.15],
    pitch: 698,
    length: 6,
  },
  urgent: { pulses: [0, 0.4, 0.8], pitch: 587, length: 10 },
  technical: { pulses: [0], pitch: 440, length: 25 },
};

export function tone(severity: Severity): Blob {
  const { pulses, pitch, length } = BURSTS[severity];
  const samples = new Float32Array(RATE * length);
  for (const start of pulses) {
    for (let at = 0; at < PULSE_S * RATE; at += 1) {
      const t = at / RATE;
      const edge = Math.min(1, t / 0.02, (PULSE_S - t) / 0.03);
      const wave = HARMONICS.reduce(
        (sum, part, n) => sum + part * Math.sin(2 * Math.PI * pitch * (n + 1) * t),
        0,
      );
      samples[Math.round(start * RATE) + at] = 0.4 * edge * wave;
    }
  }
  return wav(samples);
}

/** A tenth of a second of nothing: whether a browser plays it says whether it would play an alarm. */
export function silence(): Blob {
  return wav(new Float32Array(RATE / 10));
}

function wav(samples: Float32Array): Blob {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at: number, word: string) =>
    [...word].forEach((sign, n) => view.setUint8(at + n, sign.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, n) =>
    view.setInt16(44 + 2 * n, Math.max(-1, Math.min(1, value)) * 32_767, true),
  );
  return new Blob([view.buffer], { type: 'audio/wav' });
}
