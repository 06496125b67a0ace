use hotswap_plugin::interface;

#[interface]
trait Changes {
    fn change(&self, list: &mut Vec<u32>);
}

#[interface]
trait Waits {
    async fn wait(&self, text: &str);
}

#[interface]
trait TakesMore {
    fn take(&self, object: Box<dyn Waits + Send>);
}

#[interface]
trait IsGeneric<T> {
    fn get(&self) -> u32;
}

#[interface]
trait HasSupertrait: std::any::Any + Send {
    fn get(&self) -> u32;
}

#[interface]
trait HasCondition
where
    Self: std::any::Any,
{
    fn get(&self) -> u32;
}

#[interface]
trait HasGenericMethod {
    fn get<T>(&self) -> u32;
}

#[interface]
trait TakesSelf {
    fn consume(self) -> u32;
}

#[interface]
trait Lends {
    fn lend(&self) -> &str;
}

#[interface]
trait HasType {
    type Item;
}

#[interface]
trait Keeps {
    fn keep(&self, text: &'static str);
}

#[interface]
trait KeepsBytes {
    fn keep(&self, text: (&'static [u8]));
}

#[interface]
trait KeepsItself {
    fn keep(&'static self);
}

#[interface]
trait KeepsItselfByName {
    fn keep(self: &'static Self);
}

#[interface]
trait LivesAs<'a> {
    fn keep(&self, text: &'a str);
}

#[interface]
trait LivesAsItSays {
    fn keep<'a>(&self, text: &'a str)
    where
        'a: 'static;
}

#[interface]
trait Trusts {
    unsafe fn trust(&self);
}

#[interface]
trait LendsForGood {
    fn lend(&self) -> (&'static str);
}

macro_rules! keeps {
    ($text:ty) => {
        #[interface]
        trait KeepsOfMacro {
            fn keep(&self, text: $text);
        }
    };
}

keeps!(&'static str);

#[interface]
trait HasAMethodSometimes {
    #[cfg(unix)]
    fn sometimes(&self);
}

#[interface]
trait HasAParameterSometimes {
    fn sometimes(&self, #[cfg(unix)] file: u32);
}

fn main() {}
