import { Clock } from 'lucide-react';
import { Link } from 'wouter';
import { useConsole } from '../app/console';
import { kindOf, titleOf } from '../lib/words';
import { percentOf, phaseOf, previewOf, type Tree } from '../queue/tree';
import { Preview } from '../ui/Preview';
import { classes, Progress } from '../ui/ui';
import css from './Developing.module.css';

/** A tile of what is not a picture yet: how far it is, and what can be seen of it. */
export function Developing({ tree }: { tree: Tree }) {
  const { href } = useConsole();
  const { task } = tree;
  const preview = previewOf(tree);
  const percent = percentOf(tree);
  const waiting = task.status === 'Queued';
  return (
    <Link
      href={href({ page: 'queue', taskId: task.id })}
      className={classes(css.tile, waiting && css.waiting)}
      data-tile=""
      data-testid="developing"
      data-task={task.id}
      data-status={task.status}
    >
      <Preview src={preview} className={css.preview}>
        <span className={css.bath} aria-hidden="true" />
      </Preview>
      {waiting ? <Clock className={css.clock} aria-hidden="true" /> : null}
      <span className={css.text}>
        <span className={css.title}>{titleOf(task)}</span>
        <span className={css.phase}>
          <span>{waiting ? 'waiting' : task.status === 'Complete' ? 'done' : phaseOf(tree)}</span>
          <span>{percent === undefined ? '' : `${Math.round(percent)} %`}</span>
        </span>
        {waiting ? null : <Progress percent={percent} label={`${kindOf(task.task_type)}: ${titleOf(task)}`} />}
      </span>
    </Link>
  );
}
