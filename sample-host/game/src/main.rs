//! A game loop at 60 frames a second, whose rules are replaced while it runs.
//!
//! The program builds its plugin itself, watches its sources, and reloads it: no console is needed. The last
//! line shows how long frames take, and how long those took during which a reload was published.
//!
//! Try: run it, change `GRAVITY` in `sample-host/game/rules/src/lib.rs`, and save. Then let `look` return
//! another character. A mistake in the rules is shown, and the game goes on with the old ones. `q` ends it.
//!
//! `cargo run -p game`

mod frames;
mod rules;
mod screen;

use std::{
    io::IsTerminal as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use eyre::Result;
use hotswap_engine::Engine;
use sample_api::Ball;

use frames::Frames;
use rules::Rules;
use screen::Screen;

/// The time from one frame to the next.
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// A game loop whose rules are replaced while it runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Ends after so many frames
    #[arg(long)]
    frames: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rules = Rules::build(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let engine = Engine::builder(rules.plugin_dir()).only(["rules"]).build()?;
    engine.load(())?;
    let reloads = rules.reload_when_changed(engine.clone())?;

    // Looked up once; each call goes to the version that serves then.
    let step = engine.func::<fn(Vec<Ball>, f32) -> Vec<Ball>>("rules", "step")?;
    let look = engine.func::<fn(Ball) -> char>("rules", "look")?;
    let mut balls: Vec<Ball> = (1..=12_u8).map(ball).collect();
    let mut screen =
        if std::io::stdout().is_terminal() { Screen::open()? } else { Screen::without_terminal() };
    screen.show_status("the rules serve: change them, and save")?;
    let mut frames = Frames::default();
    while !screen.should_quit()? && arguments.frames.is_none_or(|most| frames.count() < most) {
        let begun = Instant::now();
        if let Some(text) = reloads.try_iter().last() {
            frames.reloaded();
            screen.show_status(&text)?;
        }
        balls = step.call(balls, PERIOD.as_secs_f32())?;
        let drawn = balls.iter().map(|ball| Ok((ball.x, ball.y, look.call(ball.clone())?)));
        screen.draw(&drawn.collect::<Result<Vec<_>>>()?, &frames.to_string())?;
        frames.add(begun.elapsed());
        thread::sleep(PERIOD.saturating_sub(begun.elapsed()));
    }
    drop(screen);
    println!("{frames}");
    Ok(())
}

/// A ball of its own for each number.
fn ball(number: u8) -> Ball {
    let part = f32::from(number) / 13.0;
    Ball { x: part, y: 0.3 * part, speed_x: 0.4 - part, speed_y: 0.0 }
}
