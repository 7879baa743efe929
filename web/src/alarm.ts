/**
 * `<lz-alarms src="/alarms/strip">`: the alarms that stand, on every page of the clinic, with sound.
 *
 * A browser plays nothing before somebody has touched the page. Then the strip says that it is
 * mute, also while nothing rings: nobody should learn it from the alarm that they did not hear.
 * Its attribute `sound` is `on`, `blocked` or `unknown`.
 */
import { listen } from './lib/feed';
import { type Severity, silence, tone } from './lib/tones';
import { words } from './lib/words';

const AGAIN_MS = 3_000;
const ALWAYS_MS = 30_000;

class Alarms extends HTMLElement {
  private readonly say = words('vitals');
  private readonly list = document.createElement('div');
  private readonly mute = document.createElement('div');
  private readonly touched = () => void this.sound();
  private stops: (() => void)[] = [];
  private playing?: HTMLAudioElement;
  private rings: Severity | '' = '';
  private again = 0;

  connectedCallback() {
    this.list.setAttribute('aria-live', 'assertive');
    this.mute.className = 'note warn row';
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = this.say('sound_on');
    const text = document.createElement('strong');
    text.textContent = this.say('sound_off');
    this.mute.append(text, button);
    this.replaceChildren(this.list);
    this.addEventListener('submit', (event) => void this.acknowledge(event));
    this.stops = ['alarm', 'reset'].map((kind) => listen(kind, () => void this.load()));
    // Any touch will do, the button only says so.
    for (const kind of ['pointerup', 'keydown']) document.addEventListener(kind, this.touched);
    void this.load();
  }

  disconnectedCallback() {
    for (const stop of this.stops) stop();
    for (const kind of ['pointerup', 'keydown']) document.removeEventListener(kind, this.touched);
    window.clearTimeout(this.again);
    this.playing?.pause();
  }

  private async load() {
    window.clearTimeout(this.again);
    try {
      const answer = await fetch(this.getAttribute('src') ?? '', {
        headers: { 'Lz-Quiet': '1', Accept: 'text/html' },
        redirect: 'manual',
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const found = document.createElement('template');
      found.innerHTML = await answer.text();
      const strip = found.content.querySelector<HTMLElement>('[data-ringing]');
      const rings = (strip?.dataset.ringing ?? '') as Severity | '';
      if (!this.typing() || rings !== this.rings) this.list.replaceChildren(found.content);
      if (rings !== this.rings) this.stop();
      this.rings = rings;
      // That devices are not heard is no event; and an event may be lost.
      this.again = window.setTimeout(() => void this.load(), ALWAYS_MS);
      await this.sound();
    } catch {
      this.again = window.setTimeout(() => void this.load(), AGAIN_MS);
    }
  }

  private typing(): boolean {
    const focus = document.activeElement;
    return focus !== null && this.list.contains(focus) && focus.matches('input');
  }

  private stop() {
    this.playing?.pause();
    this.playing = undefined;
  }

  /** Play what rings, or find out whether it could be played. */
  private async sound() {
    if (this.playing && !this.playing.paused) return;
    const sound = new Audio(URL.createObjectURL(this.rings ? tone(this.rings) : silence()));
    sound.loop = this.rings !== '';
    const mine = (this.playing = sound.loop ? sound : undefined);
    try {
      await sound.play();
      if (mine !== this.playing) sound.pause(); // acknowledged meanwhile
      this.told('on');
    } catch {
      if (mine === this.playing) this.playing = undefined;
      this.told('blocked');
    }
  }

  private told(state: 'on' | 'blocked') {
    this.setAttribute('sound', state);
    if (state === 'on') this.mute.remove();
    else this.append(this.mute);
  }

  private async acknowledge(event: Event) {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    await fetch(form.action, {
      method: 'POST',
      headers: { Accept: 'application/json' },
      body: new URLSearchParams(new FormData(form) as never),
    })
      .then((answer) => answer.text())
      .catch(() => ''); // the strip shows what became of it
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    await this.load();
  }
}

customElements.define('lz-alarms', Alarms);
