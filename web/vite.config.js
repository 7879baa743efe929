import { readdirSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

const out = '../runtime/lianzhen_runtime/web/static';

/** Each file directly in src is a style sheet or an island of its own; what they share is in src/lib. */
const input = readdirSync(join(import.meta.dirname, 'src'))
  .filter((name) => /\.(ts|css)$/.test(name) && !name.endsWith('.d.ts'))
  .map((name) => `src/${name}`);

/** Leave a .br and a .gz beside each asset: the server sends them, and never compresses again. */
const precompress = {
  name: 'precompress',
  async closeBundle() {
    const folder = join(import.meta.dirname, out, 'assets');
    for (const name of (await readdir(folder)).filter((name) => /\.(js|css)$/.test(name))) {
      const body = await readFile(join(folder, name));
      await writeFile(join(folder, `${name}.br`), brotliCompressSync(body));
      await writeFile(join(folder, `${name}.gz`), gzipSync(body, { level: 9 }));
    }
  },
};

export default defineConfig({
  base: '/static/',
  plugins: [precompress],
  build: {
    outDir: out,
    emptyOutDir: true,
    manifest: 'manifest.json',
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input },
  },
});
