import { useCredits } from '@darkroom/client';
import { SlidersHorizontal, Sparkles } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useConsole } from '../app/console';
import { inCredits } from '../lib/words';
import { Button } from '../ui/ui';
import css from './Create.module.css';
import { anyPicture, tools, useCost, useMake } from './data';

/** A picture from a line of words. */
export function QuickCreate() {
  const { project, create } = useConsole();
  const [prompt, setPrompt] = useState('');
  const cost = useCost(tools.picture, anyPicture).data;
  const { make, busy } = useMake(cost);
  const account = useCredits();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (!prompt.trim()) return;
    const made = await make([{ projectId: project.id, toolId: tools.picture, input: { prompt: prompt.trim() } }]);
    if (made.length > 0) setPrompt('');
  };
  const short = cost !== undefined && account.data !== undefined && account.data.available < cost;
  return (
    <form className={css.quick} onSubmit={(event) => void submit(event)} data-testid="quick-create">
      <input
        aria-label="Describe a picture"
        placeholder="Describe a picture…"
        value={prompt}
        onChange={(event) => setPrompt(event.target.value)}
        autoComplete="off"
      />
      <span className={short ? css.short : css.cost}>{cost === undefined ? '' : inCredits(cost)}</span>
      <Button look="quiet" icon aria-label="More options" title="More options" onClick={() => create({ kind: 'picture', prompt })}>
        <SlidersHorizontal aria-hidden="true" />
      </Button>
      <Button type="submit" busy={busy} disabled={!prompt.trim()} aria-label="Make it">
        {busy ? null : <Sparkles aria-hidden="true" />}
        <span className={css.makeIt}>Make it</span>
      </Button>
    </form>
  );
}
