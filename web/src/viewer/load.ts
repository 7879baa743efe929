/** What the shell gets when the engine is loaded. */
export { Pane } from './engine';
export { said } from './measure';
export { sourceOf } from './source';
