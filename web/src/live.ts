/**
 * `<lz-live on="alarm image" src="/alarms/fragment">…</lz-live>`: what stands in it is loaded anew
 * when one of these things happens, and when the line was cut. Plain HTML until then; with the
 * attribute `now` it is loaded at once, for parts of a page that another area makes.
 *
 * `<lz-age since="…ms">`: how long ago, in words that go on counting.
 */
import { listen } from './lib/feed';

const SETTLE_MS = 150;

class Live extends HTMLElement {
  private stops: (() => void)[] = [];
  private waiting = 0;

  connectedCallback() {
    const kinds = (this.getAttribute('on') ?? '').split(/\s+/).filter(Boolean);
    this.stops = [...kinds, 'reset'].map((kind) => listen(kind, () => this.soon()));
    if (this.hasAttribute('now')) void this.load('opening');
    const every = Number(this.getAttribute('every') ?? 0);
    if (every) {
      const clock = window.setInterval(() => this.soon(), every * 1_000);
      this.stops.push(() => window.clearInterval(clock));
    }
  }

  disconnectedCallback() {
    for (const stop of this.stops) stop();
    window.clearTimeout(this.waiting);
  }

  /** Several events in a moment are one load. */
  private soon() {
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => void this.load(), SETTLE_MS);
  }

  /** A part that is loaded with its page was opened by a person; what comes later looks again. */
  private async load(quiet = '1') {
    const source = this.getAttribute('src');
    if (!source) {
      window.location.reload();
      return;
    }
    try {
      const answer = await fetch(source, {
        headers: { 'Lz-Quiet': quiet, Accept: 'text/html' },
        redirect: 'manual',
      });
      if (answer.ok && this.busy()) {
        this.addEventListener('focusout', () => this.soon(), { once: true });
      } else if (answer.ok) {
        this.innerHTML = await answer.text();
        this.dispatchEvent(new CustomEvent('lz-loaded', { bubbles: true }));
      } else if (answer.type === 'opaqueredirect') window.location.reload();
    } catch {
      // The line is cut; the feed says so, and asks again when it is back.
    }
  }

  /** Nobody loses what they are typing. */
  private busy(): boolean {
    const focus = document.activeElement;
    return focus !== null && this.contains(focus) && focus.matches('input, textarea, select');
  }
}

class Age extends HTMLElement {
  private clock = 0;

  connectedCallback() {
    this.clock = window.setInterval(() => this.tell(), 1_000);
    this.tell();
  }

  disconnectedCallback() {
    window.clearInterval(this.clock);
  }

  private tell() {
    const since = Number(this.getAttribute('since'));
    const seconds = Math.max(0, Math.round((Date.now() - since) / 1_000));
    const [size, unit] = (
      [
        [86_400, 'day'],
        [3_600, 'hour'],
        [60, 'minute'],
      ] as const
    ).find(([size]) => seconds >= size) ?? [1, 'second' as const];
    const words = new Intl.NumberFormat(document.documentElement.lang, {
      style: 'unit',
      unit,
      unitDisplay: 'short',
    });
    this.textContent = words.format(Math.floor(seconds / size));
  }
}

// A menu that is open closes when one goes on with something else.
document.addEventListener('click', (event) => {
  for (const menu of document.querySelectorAll<HTMLDetailsElement>('details.drop[open]')) {
    if (!menu.contains(event.target as Node)) menu.open = false;
  }
});

customElements.define('lz-live', Live);
customElements.define('lz-age', Age);
