/**
 * `<lz-signing-key account="…">`: makes an expert's key and asks for its certificate.
 * `<lz-draft>`: saves the form in it while somebody types.
 * `<lz-sign action="…">`: shows exactly what is signed, asks for the passphrase, and signs.
 */
import { LitElement, html, nothing } from 'lit';
import {
  MIN_PASSPHRASE,
  type Value,
  type Wrapped,
  WrongPassphrase,
  canonical,
  makeKey,
  secure,
  sha256,
  sign,
  signatureInput,
} from './lib/signing';
import { data, words } from './lib/words';

const SAVE_MS = 1_500;

interface Problem {
  detail?: string;
}

/** Send JSON; what came back, or an error with the server's own sentence. */
async function send<T>(path: string, body: unknown): Promise<T> {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
    body: JSON.stringify(body),
  });
  const found = (await answer.json()) as T & Problem;
  if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
  return found;
}

/** An island in the page's own styles. */
class Island extends LitElement {
  static override properties = {
    account: {},
    action: {},
    busy: { state: true },
    wrong: { state: true },
    digest: { state: true },
  };
  declare busy: boolean;
  declare wrong: string;

  constructor() {
    super();
    this.busy = false;
    this.wrong = '';
  }

  protected override createRenderRoot() {
    return this;
  }

  protected note() {
    return this.wrong ? html`<p class="note alarm" role="alert">${this.wrong}</p>` : nothing;
  }

  protected text(name: string): string {
    return this.querySelector<HTMLInputElement>(`[name=${name}]`)?.value ?? '';
  }

  /** Do it once, with the button down; `failed` words any error. */
  protected async doing(work: () => Promise<void>, failed: (error: Error) => string) {
    this.busy = true;
    this.wrong = '';
    try {
      await work();
    } catch (error) {
      this.wrong = failed(error as Error);
    } finally {
      this.busy = false;
    }
  }
}

class SigningKey extends Island {
  declare account: string;
  private readonly t = words('signers');

  private asking = (event: Event) => {
    event.preventDefault();
    const passphrase = this.text('passphrase');
    if ([...passphrase].length < MIN_PASSPHRASE) this.wrong = this.t('short');
    else if (passphrase !== this.text('again')) this.wrong = this.t('differ');
    else
      void this.doing(
        () => this.ask(passphrase),
        (error) => this.t('failed', { reason: error.message }),
      );
  };

  private async ask(passphrase: string) {
    const { challenge } = await send<{ challenge: string }>('/signing/challenge', {});
    const key = await makeKey(challenge, this.account, passphrase);
    const about = { title: this.text('title'), licence: this.text('licence') };
    const { location } = await send<{ location: string }>('/signing/request', {
      ...about,
      ...key,
    });
    window.location.assign(location);
  }

  protected override render() {
    const { t } = this;
    if (!secure()) return html`<p class="note alarm" role="alert">${t('insecure')}</p>`;
    return html`<form @submit=${this.asking}>
      <label class="field"><span>${t('title_label')}</span>
        <input name="title" required maxlength="64" autocomplete="off"></label>
      <label class="field"><span>${t('licence')}</span>
        <input name="licence" required maxlength="64" autocomplete="off"></label>
      <label class="field"><span>${t('passphrase')}</span>
        <input name="passphrase" type="password" required autocomplete="new-password">
        <small>${t('passphrase_hint')}</small></label>
      <label class="field"><span>${t('again')}</span>
        <input name="again" type="password" required autocomplete="new-password"></label>
      ${this.note()}
      <button class="main" ?disabled=${this.busy}>${this.busy ? t('working') : t('make')}</button>
    </form>`;
  }
}

interface ToSign {
  document: Value;
  suite: number;
  wrapped: Wrapped;
}

interface Said {
  id: string;
  consultation: string;
  amends: string | null;
  clinic: string;
  department: string;
  patient: { id: string; name: string; sex: string; birth_date: string; number: string };
  findings: string;
  conclusion: string;
  advice: string;
  signed_ms: number;
  signer: { name: string; title: string; licence: string; certificate: string };
}

class Sign extends Island {
  declare action: string;
  declare digest: string;
  private readonly t = words('opinions');
  private readonly given = data<ToSign>('to-sign');
  /** These bytes are signed; everything that is shown is read from them. */
  private readonly text_ = canonical(this.given.document);
  private readonly said = JSON.parse(this.text_) as Said;

  constructor() {
    super();
    this.digest = '';
  }

  override connectedCallback() {
    super.connectedCallback();
    if (secure())
      void sha256(signatureInput(this.given.suite, this.text_)).then((found) => {
        this.digest = found;
      });
  }

  private signing = (event: Event) => {
    event.preventDefault();
    void this.doing(
      () => this.sign(this.text('passphrase')),
      (error) =>
        error instanceof WrongPassphrase
          ? this.t('wrong')
          : this.t('failed', { reason: error.message }),
    );
  };

  private async sign(passphrase: string) {
    const { suite, wrapped } = this.given;
    const signature = await sign(wrapped, passphrase, suite, this.text_);
    const { location } = await send<{ location: string }>(this.action, {
      document: this.text_,
      suite,
      signature,
    });
    window.location.assign(location);
  }

  private facts() {
    const { said, t } = this;
    const when = new Date(said.signed_ms).toLocaleString(document.documentElement.lang);
    const rows: [string, string][] = [
      ['patient', said.patient.name],
      ['sex', said.patient.sex],
      ['birth_date', said.patient.birth_date],
      ['id_number', said.patient.number],
      ['clinic', said.clinic],
      ['department', said.department],
      ['findings', said.findings],
      ['conclusion', said.conclusion],
      ['advice', said.advice],
      ['amends', said.amends ?? ''],
      ['signer', `${said.signer.name} ${said.signer.title}`],
      ['licence', said.signer.licence],
      ['time', when],
      ['number', said.id],
    ];
    return rows
      .filter(([, text]) => text)
      .map(([word, text]) => html`<dt>${t(word)}</dt><dd>${lines(text)}</dd>`);
  }

  protected override render() {
    const { t } = this;
    if (!secure()) return html`<p class="note alarm" role="alert">${t('insecure')}</p>`;
    return html`<p>${t('check')}</p>
      <dl class="facts">${this.facts()}
        <dt>${t('digest')}</dt><dd><code>${this.digest}</code></dd></dl>
      <form @submit=${this.signing}>
        <label class="field"><span>${t('passphrase')}</span>
          <input name="passphrase" type="password" required autocomplete="off">
          <small>${t('passphrase_hint')}</small></label>
        ${this.note()}
        <button class="main" ?disabled=${this.busy}>${this.busy ? t('working') : t('do_sign')}</button>
      </form>`;
  }
}

const lines = (text: string) =>
  text.split('\n').map((line, at) => (at ? html`<br>${line}` : html`${line}`));

class Draft extends HTMLElement {
  private readonly t = words('opinions');
  private waiting = 0;
  private saving: Promise<void> = Promise.resolve();

  connectedCallback() {
    this.addEventListener('input', this.typed);
    this.form.addEventListener('submit', this.leaving);
  }

  private get form(): HTMLFormElement {
    return this.querySelector('form')!;
  }

  private typed = () => {
    window.clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => {
      this.saving = this.saving.then(() => this.save());
    }, SAVE_MS);
  };

  /** A save under way has the version that the form must carry. */
  private leaving = (event: Event) => {
    event.preventDefault();
    window.clearTimeout(this.waiting);
    void this.saving.then(() => this.form.submit());
  };

  private async save() {
    const fields = Object.fromEntries(new FormData(this.form)) as Record<string, string>;
    const status = this.querySelector('[role=status]')!;
    try {
      const body = { ...fields, version: Number(fields['version']) };
      const found = await send<{ version: number; saved_ms: number }>(this.form.action, body);
      this.form.querySelector<HTMLInputElement>('[name=version]')!.value = String(found.version);
      const when = new Date(found.saved_ms).toLocaleTimeString(document.documentElement.lang);
      status.textContent = `${this.t('saved')} ${when}`;
    } catch (error) {
      status.textContent = this.t('not_saved', { reason: (error as Error).message });
    }
  }
}

customElements.define('lz-signing-key', SigningKey);
customElements.define('lz-sign', Sign);
customElements.define('lz-draft', Draft);
