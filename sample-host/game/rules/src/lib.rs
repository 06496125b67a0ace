//! The rules of the game. Change them while it runs, and save.

use hotswap_plugin::prelude::*;
use sample_api::Ball;

/// How much faster a ball falls each second, in heights of the screen.
const GRAVITY: f32 = 1.5;

/// The part of its speed that a ball keeps when it bounces.
const BOUNCE: f32 = 0.98;

/// The rules.
#[derive(Default)]
struct Rules;

#[plugin]
impl Plugin for Rules {}

/// Where the balls are after `seconds`. The screen is 1 wide and 1 high, and y grows downwards.
#[invoke]
fn step(balls: Vec<Ball>, seconds: f32) -> Vec<Ball> {
    balls.into_iter().map(|ball| fall(ball, seconds)).collect()
}

/// The character that shows a ball.
#[invoke]
fn look(ball: Ball) -> char {
    if ball.speed_y.abs() > 1.0 { 'O' } else { 'o' }
}

fn fall(mut ball: Ball, seconds: f32) -> Ball {
    ball.speed_y += GRAVITY * seconds;
    (ball.x, ball.speed_x) = bounced(ball.x + ball.speed_x * seconds, ball.speed_x);
    (ball.y, ball.speed_y) = bounced(ball.y + ball.speed_y * seconds, ball.speed_y);
    ball
}

/// A position and a speed after a bounce at the edge of the screen.
fn bounced(place: f32, speed: f32) -> (f32, f32) {
    let is_beyond = place < 0.0 && speed < 0.0 || place > 1.0 && speed > 0.0;
    (place.clamp(0.0, 1.0), if is_beyond { -speed * BOUNCE } else { speed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ball_falls_and_stays_on_the_screen() {
        let mut balls = vec![Ball { x: 0.5, y: 0.1, speed_x: 0.3, speed_y: 0.0 }];
        balls = step(balls, 0.1);
        assert!(balls[0].y > 0.1 && balls[0].x > 0.5);
        for _ in 0..1_000 {
            balls = step(balls, 0.1);
            assert!((0.0..=1.0).contains(&balls[0].x) && (0.0..=1.0).contains(&balls[0].y));
        }
    }
}
