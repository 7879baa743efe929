/** `<lz-until at="…ms">`: how long somebody still has, counting down; the time itself before that. */

const HURRY_S = 60;

class Until extends HTMLElement {
  private clock = 0;

  connectedCallback() {
    this.clock = window.setInterval(() => this.tell(), 1_000);
    this.tell();
  }

  disconnectedCallback() {
    window.clearInterval(this.clock);
  }

  private tell() {
    const left = Math.max(0, Math.ceil((Number(this.getAttribute('at')) - Date.now()) / 1_000));
    const [minutes, seconds] = [Math.floor(left / 60), left % 60];
    this.textContent = `${minutes}:${String(seconds).padStart(2, '0')}`;
    this.classList.toggle('alarm', left < HURRY_S);
  }
}

customElements.define('lz-until', Until);
