/**
 * `<lz-stack>`: the pictures in its list as one stack to page through: wheel, arrow keys, slider,
 * and three ways to look at grey. The list stays as it is where there is no script.
 */
class Stack extends HTMLElement {
  private pictures: HTMLImageElement[] = [];
  private at = 0;

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
    row.append(slider, number, ...this.looks(picture));
    frame.append(picture, row);
    this.prepend(frame);
    const show = (to: number) => {
      this.at = Math.min(Math.max(to, 0), this.pictures.length - 1);
      const one = this.pictures[this.at]!;
      picture.src = one.src;
      picture.alt = one.alt;
      slider.value = String(this.at);
      number.textContent = `${this.at + 1} / ${this.pictures.length}`;
    };
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

customElements.define('lz-stack', Stack);
