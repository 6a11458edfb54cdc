import { Dialog, Kbd } from '../ui/ui';
import css from './Help.module.css';

const keys: [string[], string][] = [
  [['c'], 'Create a picture'],
  [['t'], 'Create a travel between pictures'],
  [['g'], 'Gallery'],
  [['q'], 'Queue'],
  [['w'], 'Workers'],
  [['b'], 'Credits (balance)'],
  [['p'], 'Switch project'],
  [['←', '→', '↑', '↓'], 'Move through pictures, in the gallery and when one is open'],
  [['Enter'], 'Open a picture'],
  [['Space'], 'Lift a picture of a shot; arrows move it, Space puts it down'],
  [['Esc'], 'Close what is open'],
  [['?'], 'This help'],
];

export function Help({ on, setOn, onClose }: { on: boolean; setOn: (on: boolean) => void; onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose} testId="help">
      <dl className={css.keys}>
        {keys.map(([names, does]) => (
          <div key={does}>
            <dt>
              {names.map((name) => (
                <Kbd key={name}>{name}</Kbd>
              ))}
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label className={css.setting}>
        <input type="checkbox" checked={on} onChange={(event) => setOn(event.target.checked)} />
        Single letters are shortcuts
      </label>
      <p className={css.note}>
        For a look into the cache, the browser's console has <code>queryClient</code>.
      </p>
    </Dialog>
  );
}
