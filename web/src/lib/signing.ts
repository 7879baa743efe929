/**
 * An expert's key and signature, in this browser alone (docs/opinion.md).
 *
 * The private key exists outside its sealed form only between the passphrase and the signature.
 * What is signed is made here: the hub's document is canonicalised (RFC 8785), and what is shown
 * is read back from those very bytes.
 */

export interface Wrapped {
  iterations: number;
  salt: string;
  nonce: string;
  sealed: string;
}

export type Value = string | number | null | Value[] | { [name: string]: Value };

type Bytes = Uint8Array<ArrayBuffer>;

export const MIN_PASSPHRASE = 12;
const ITERATIONS = 1_000_000;
const CURVE = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGN = { name: 'ECDSA', hash: 'SHA-256' };
const MAX_ITERATIONS = 20_000_000;

/** The passphrase does not open the key. */
export class WrongPassphrase extends Error {}

/** Whether the browser lets this page use keys at all. */
export const secure = (): boolean => window.isSecureContext && 'subtle' in crypto;

/** The one text of a value; an error for fractions, booleans and halves of characters. */
export function canonical(value: Value): string {
  if (value === null) return 'null';
  if (typeof value === 'string') {
    if (/\p{Surrogate}/u.test(value)) throw new Error('a text holds half a character');
    return JSON.stringify(value);
  }
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new Error('a number that is no safe integer');
    return String(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object') throw new Error(`a ${typeof value} has no canonical text here`);
  // Array.sort compares UTF-16 code units, as RFC 8785 wants it.
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${canonical(name)}:${canonical(value[name]!)}`).join(',')}}`;
}

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text) as Bytes;

export const hex = (raw: ArrayBuffer | Uint8Array): string =>
  Array.from(raw instanceof Uint8Array ? raw : new Uint8Array(raw), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');

export function unhex(text: string): Bytes {
  const found = new Uint8Array(text.length / 2);
  for (let at = 0; at < found.length; at++) {
    found[at] = Number.parseInt(text.slice(2 * at, 2 * at + 2), 16);
  }
  return found;
}

/** What a signature is over: its domain, the suite, the document. */
export const signatureInput = (suite: number, document: string): Bytes =>
  join(utf8('lz/1 opinion\0'), new Uint8Array([suite]), utf8(document));

export const sha256 = async (raw: Bytes): Promise<string> =>
  hex(await crypto.subtle.digest('SHA-256', raw));

/** A new key: its public half, the proof that it is here, and the private half, sealed. */
export async function makeKey(challenge: string, account: string, passphrase: string) {
  const pair = await crypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const spki = new Uint8Array(await crypto.subtle.exportKey('spki', pair.publicKey));
  const message = join(
    utf8('lz/1 signing request\0'),
    unhex(challenge),
    utf8(`${account}\0`),
    spki,
  );
  const proof = await crypto.subtle.sign(SIGN, pair.privateKey, message);
  const plain = new Uint8Array(await crypto.subtle.exportKey('pkcs8', pair.privateKey));
  const wrapped = await wrap(plain, passphrase);
  plain.fill(0);
  return { spki: hex(spki), proof: hex(proof), wrapped };
}

/** Open the key, sign once, forget it. WrongPassphrase. */
export async function sign(
  wrapped: Wrapped,
  passphrase: string,
  suite: number,
  document: string,
): Promise<string> {
  if (suite !== 1) throw new Error(`suite ${suite} is not one that this page signs with`);
  const plain = await unwrap(wrapped, passphrase);
  try {
    const key = await crypto.subtle.importKey('pkcs8', plain, CURVE, false, ['sign']);
    return hex(await crypto.subtle.sign(SIGN, key, signatureInput(suite, document)));
  } finally {
    plain.fill(0);
  }
}

async function wrap(plain: Bytes, passphrase: string): Promise<Wrapped> {
  const salt = crypto.getRandomValues(new Uint8Array(16));
  const nonce = crypto.getRandomValues(new Uint8Array(12));
  const key = await derive(passphrase, salt, ITERATIONS);
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce }, key, plain);
  return { iterations: ITERATIONS, salt: hex(salt), nonce: hex(nonce), sealed: hex(sealed) };
}

async function unwrap(wrapped: Wrapped, passphrase: string): Promise<Bytes> {
  const key = await derive(passphrase, unhex(wrapped.salt), wrapped.iterations);
  const how = { name: 'AES-GCM', iv: unhex(wrapped.nonce) };
  try {
    return new Uint8Array(await crypto.subtle.decrypt(how, key, unhex(wrapped.sealed)));
  } catch {
    throw new WrongPassphrase();
  }
}

async function derive(passphrase: string, salt: Bytes, iterations: number): Promise<CryptoKey> {
  if (iterations > MAX_ITERATIONS) throw new Error('the key is sealed in a way that never opens');
  // One form of what was typed, as input methods differ.
  const typed = utf8(passphrase.normalize('NFKC'));
  const base = await crypto.subtle.importKey('raw', typed, 'PBKDF2', false, ['deriveKey']);
  const how = { name: 'PBKDF2', hash: 'SHA-256', salt, iterations };
  const kind = { name: 'AES-GCM', length: 256 };
  return crypto.subtle.deriveKey(how, base, kind, false, ['encrypt', 'decrypt']);
}

function join(...parts: Uint8Array[]): Bytes {
  const found = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
}
