/**
 * `<lz-stack>`: the pictures in its list as one stack to page through: wheel, arrow keys, slider,
 * and ways to look at grey. `windows="lung=…|bone=…"`: VOI windows that the server applies to the
 * values (`?window=lung`); without them contrast and brightness of the picture itself. The list
 * stays as it is where there is no script.
 */
class Stack extends HTMLElement {
  private pictures: HTMLImageElement[] = [];
  private at = 0;
  private window = '';

  connectedCallback() {
    this.pictures = [...this.querySelectorAll<HTMLImageElement>('img')];
    if (!this.pictures.length || this.querySelector('.stack')) return;
    const frame = document.createElement('div');
    frame.className = 'stack';
    const picture = document.createElement('img');
    const slider = document.createElement('input');
    Object.assign(slider, { type: 'range', min: '0', value: '0' });
    slider.max = String(this.pictures.length - 1);
    slider.setAttribute('aria-label', this.getAttribute('label') ?? '');
    const number = document.createElement('output');
    const row = document.createElement('div');
    row.className = 'row';
    frame.append(picture, row);
    this.prepend(frame);
    const show = (to: number) => {
      this.at = Math.min(Math.max(to, 0), this.pictures.length - 1);
      const one = this.pictures[this.at]!;
      picture.src = this.window ? `${one.src}?window=${this.window}` : one.src;
      picture.alt = one.alt;
      slider.value = String(this.at);
      number.textContent = `${this.at + 1} / ${this.pictures.length}`;
    };
    const again = () => show(this.at);
    row.append(slider, number, ...(this.windows(again) ?? this.looks(picture)));
    slider.addEventListener('input', () => show(Number(slider.value)));
    picture.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        show(this.at + Math.sign(event.deltaY));
      },
      { passive: false },
    );
    show(Math.floor(this.pictures.length / 2));
  }

  /** Buttons for the windows that the page offers; the one that is used is pressed. */
  private windows(show: () => void): HTMLButtonElement[] | undefined {
    const offered = this.getAttribute('windows');
    if (!offered) return undefined;
    const choices = [['', this.getAttribute('full') ?? ''], ...offered.split('|').map(pair)];
    const buttons = choices.map(([name, text]) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = text!;
      button.setAttribute('aria-pressed', String(name === this.window));
      button.addEventListener('click', () => {
        this.window = name!;
        for (const each of buttons) each.setAttribute('aria-pressed', String(each === button));
        show();
      });
      return button;
    });
    return buttons;
  }

  /** Buttons for the looks that page.css has. */
  private looks(picture: HTMLElement): HTMLButtonElement[] {
    return ['full', 'narrow', 'bright'].map((look) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = this.getAttribute(look) ?? look;
      button.addEventListener('click', () => (picture.dataset.look = look));
      return button;
    });
  }
}

const pair = (text: string) => text.split('=');

customElements.define('lz-stack', Stack);
