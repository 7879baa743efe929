import { readdirSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

const out = '../runtime/lianzhen_runtime/web/static';

/** Each file directly in src is a style sheet or an island of its own; what they share is in src/lib. */
const input = readdirSync(join(import.meta.dirname, 'src'))
  .filter((name) => /\.(ts|css)$/.test(name) && !name.endsWith('.d.ts'))
  .map((name) => `src/${name}`);

/**
 * What of the viewer's engine does not fit here. Its labels set a style attribute, which our
 * Content-Security-Policy forbids: the same by the style's own interface is allowed. And a writer
 * of XML comes with it that nothing of ours calls.
 */
const LABEL = "textElement.setAttribute('style', combinedStyle);";
const engine = {
  name: 'engine',
  enforce: 'pre',
  resolveId: (id) => (id.startsWith('xmlbuilder2') ? '\0xmlbuilder2' : undefined),
  load: (id) => (id === '\0xmlbuilder2' ? "export const create = () => { throw new Error('no XML here'); };" : undefined),
  transform(code, id) {
    if (!id.endsWith('/drawingSvg/drawTextBox.js')) return undefined;
    if (!code.includes(LABEL)) this.error('the engine draws its labels in another way now');
    return { code: code.replace(LABEL, 'textElement.style.cssText = combinedStyle;'), map: null };
  },
};

/** Leave a .br and a .gz beside each asset: the server sends them, and never compresses again. */
const precompress = {
  name: 'precompress',
  async closeBundle() {
    for (const folder of ['assets', 'workers'].map((name) => join(import.meta.dirname, out, name))) {
      for (const name of (await readdir(folder)).filter((name) => /\.(js|css|wasm)$/.test(name))) {
        const body = await readFile(join(folder, name));
        // The best takes half a minute for the viewer's engine, and saves a tenth.
        const quality = body.length > 1_000_000 ? 9 : constants.BROTLI_MAX_QUALITY;
        const params = { [constants.BROTLI_PARAM_QUALITY]: quality };
        await writeFile(join(folder, `${name}.br`), brotliCompressSync(body, { params }));
        await writeFile(join(folder, `${name}.gz`), gzipSync(body, { level: 9 }));
      }
    }
  },
};

export default defineConfig({
  base: '/static/',
  plugins: [engine, precompress],
  // A worker's policy comes with its script: they have a folder, and so a policy, of their own.
  worker: {
    format: 'es',
    plugins: () => [engine],
    rolldownOptions: {
      output: { entryFileNames: 'workers/[name]-[hash].js', assetFileNames: 'workers/[name]-[hash][extname]' },
    },
  },
  build: {
    outDir: out,
    emptyOutDir: true,
    manifest: 'manifest.json',
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 4000,
    rolldownOptions: { input },
  },
});
