/**
 * `<lz-cine frames="16"><img src="…/preview"></lz-cine>`: a cine out of the frames behind its preview
 * (`?frame=0` and on), to be played and paged through. Nothing moves before it is asked to. Without
 * script the picture stays.
 */

const FRAME_MS = 120;

class Cine extends HTMLElement {
  private clock = 0;

  connectedCallback() {
    const picture = this.querySelector('img');
    const frames = Number(this.getAttribute('frames'));
    if (!picture || !(frames > 1) || this.querySelector('.row')) return;
    const base = picture.src;
    const row = document.createElement('div');
    row.className = 'row';
    const button = document.createElement('button');
    button.type = 'button';
    const slider = document.createElement('input');
    Object.assign(slider, { type: 'range', min: '0', max: String(frames - 1), value: '0' });
    slider.setAttribute('aria-label', this.getAttribute('label') ?? '');
    const number = document.createElement('output');
    row.append(button, slider, number);
    this.append(row);
    const show = (at: number) => {
      slider.value = String(at);
      picture.src = `${base}?frame=${at}`;
      number.textContent = `${at + 1} / ${frames}`;
    };
    const say = () => (button.textContent = this.getAttribute(this.clock ? 'pause' : 'play'));
    const stop = () => {
      window.clearInterval(this.clock);
      this.clock = 0;
      say();
    };
    slider.addEventListener('input', () => {
      stop();
      show(Number(slider.value));
    });
    button.addEventListener('click', () => {
      if (this.clock) return stop();
      // The next one waits until this one is there: on a bad line it is slow, and never a blank.
      this.clock = window.setInterval(() => {
        if (picture.complete) show((Number(slider.value) + 1) % frames);
      }, FRAME_MS);
      say();
    });
    say();
  }

  disconnectedCallback() {
    window.clearInterval(this.clock);
    this.clock = 0;
  }
}

customElements.define('lz-cine', Cine);
